"""The demonstration: a small library website, synthetic visitors, and the story told with them."""
