"""The desk: everything a person can do in a chat outside the wizard, in neutral blocks, the same for every chat."""
