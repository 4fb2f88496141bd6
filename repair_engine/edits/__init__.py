"""Edits that tune: tensors of the model learned on score images, chosen on select images under the repair's limits."""
