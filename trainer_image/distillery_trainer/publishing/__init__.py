"""From manifests to documents: the model card and the terms in it."""
