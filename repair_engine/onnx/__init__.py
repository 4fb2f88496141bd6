"""ONNX models: the graph as data, an importer to a torch module, and the file written back with other weights."""

from repair_engine.onnx.importing import Imported, import_file
from repair_engine.onnx.module import GraphModule
from repair_engine.onnx.reference import comparable, onnxruntime_version, run_file
from repair_engine.onnx.wire import assemble

__all__ = ["GraphModule", "Imported", "assemble", "comparable", "import_file", "onnxruntime_version", "run_file"]
