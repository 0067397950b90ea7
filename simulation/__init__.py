"""The researcher's side: synthetic hospitals, and the real client and server run on them. Never shipped to one."""
