"""The teacher as an API: asked through the gateway, which holds the keys and the budget. Nothing here loads a model."""
