"""What a server says of itself: its OpenAPI document as operations that can be called."""
