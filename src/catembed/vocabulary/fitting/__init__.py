"""Learning vocabularies: counting, from columns and from files, in bounded memory; what is kept, and in which order."""
