"""A recipe and rules made into a plan, and the plan carried out."""
