"""Evidence mode: what frozen features of candidates show on a sample of a dataset, before anything is trained."""
