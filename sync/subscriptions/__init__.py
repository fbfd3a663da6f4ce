"""One Graph subscription for each mailbox: planned, carried out, remembered."""
