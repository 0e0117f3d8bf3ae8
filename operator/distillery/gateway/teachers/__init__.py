"""The teachers' side of the gateway: one client, one set of limits and one circuit breaker for each model behind an API."""
