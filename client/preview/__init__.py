"""What would leave a hospital if it joined a study, shown before anybody approves it: ``sarco-site preview``."""
