"""The zoo: which networks and pre-trainings there are, which to recommend, and the recipe each family trains by."""
