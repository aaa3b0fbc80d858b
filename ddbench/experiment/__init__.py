"""From a command or a study to records: what is asked for, planned, distilled, evaluated."""
