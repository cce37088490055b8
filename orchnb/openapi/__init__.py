"""A server's OpenAPI document, as operations that can be called."""
