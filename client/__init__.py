"""One hospital: everything that may touch participants' data."""
