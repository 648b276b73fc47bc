"""Ways to and from other libraries; each needs that library only when it is used."""
