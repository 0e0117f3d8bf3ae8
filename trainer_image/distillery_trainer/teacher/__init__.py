"""Who teaches: a model whose weights we load, or an API."""
