"""What a person looks at and takes along: curves, matrices, model cards, inference and export."""
