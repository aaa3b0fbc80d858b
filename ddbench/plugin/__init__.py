"""What plugin authors read: the classes they derive from, the types that flow, specs, and how plugins are found."""
