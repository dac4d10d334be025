"""A page in the browser over one model: recognise, edit objects, instruct, ask."""
