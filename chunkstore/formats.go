package chunkstore

// Versions of the formats that this package writes, for who is asked what a program can read.
const (
	FormatObject = objectVersion
	FormatPack   = packVersion
	FormatMarker = markerFormat // of a bucket's identity
)
