"""Which tables there are: the name of a table's marks in docs/formats.md -> its rows."""

from __future__ import annotations

from tests.repair_engine.formats import table_huggingface, table_images, table_weights

TABLES = {
    "images": table_images.ROWS,
    "huggingface": table_huggingface.ROWS,
    "checkpoints": table_weights.CHECKPOINTS,
    "onnx": table_weights.ONNX,
}
