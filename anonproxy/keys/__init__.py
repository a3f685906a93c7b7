"""The only room that holds secrets: one key an epoch, in memory, and the visits that it numbers."""
