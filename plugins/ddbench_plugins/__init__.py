"""The plugins that come with ddbench; they use only its public names, as a third party's would."""
