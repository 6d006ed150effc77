"""Many runs into the store: planning, workers, files on disk, and what is measured on stored runs."""
