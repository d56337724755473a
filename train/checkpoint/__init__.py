"""The state of a run on disk: written often, read where a run was killed."""
