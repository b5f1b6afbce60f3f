"""Documents with entities and relations between them: the data model that workers and the annotation service share."""
