package history

// FormatVersion is that of the records that this package writes.
const FormatVersion = formatVersion
