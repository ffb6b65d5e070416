"""The truth of a case: recomputed, proved, and stored as goldens; and certificates of who reproduced them."""
