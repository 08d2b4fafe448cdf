"""Whether what a spec names is there and fits: models, tasks, arguments, the user's own modules. Nothing is imported for it."""
