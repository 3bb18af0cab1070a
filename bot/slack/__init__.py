"""The Slack face: Bolt listeners on one side, the wizard, the desk and the notifier on the other."""
