package manifest

// FormatVersion is that of the manifests that this package writes.
const FormatVersion = version
