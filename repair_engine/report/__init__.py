"""What is said about a repair: figures, documents, pages."""
