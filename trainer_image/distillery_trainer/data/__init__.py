"""The way of a row: from a user's file over its template to token ids."""
