"""Self-contained HTML pages: results that people open from disk, mail or a build's artifacts."""
