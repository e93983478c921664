"""Connection policies: which upstream container talks to which downstream container, with which weight."""
