"""Training: recipes (:mod:`.recipe`), the loop (:mod:`.loop`), measuring a model (:mod:`.evaluate`)."""
