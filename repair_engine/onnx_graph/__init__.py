"""ONNX models: the graph as data, an importer to a torch module, and the file written back with other weights."""

from repair_engine.onnx_graph.importing import Imported, import_file
from repair_engine.onnx_graph.module import GraphModule
from repair_engine.onnx_graph.reference import comparable, onnxruntime_version, run_file
from repair_engine.onnx_graph.wire import assemble

__all__ = ["GraphModule", "Imported", "assemble", "comparable", "import_file", "onnxruntime_version", "run_file"]
