"""How far a healthy run may be from the truth: graphs run at given decisions, with errors put in."""
