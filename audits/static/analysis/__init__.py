"""Which values every name may hold, and what an entry point reaches."""
