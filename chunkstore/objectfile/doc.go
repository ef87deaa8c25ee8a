// Package objectfile has what is done alike to the files that a directory's objects, a cache's
// entries and a restored database are: it opens them without trust in what else may stand under
// their names, and writes many of them at a steady pace. It knows neither keys nor formats.
package objectfile
