package arch_test

// largeTypes are types with more fields or methods than fieldsMax and methodsMax, and why.
var largeTypes = map[string]string{
	"vfs.Config":               "a field for each key of the configuration",
	"replicate/replica.Status": "a field for each thing that is told of a replica",
	"replicate/replica.Reader": "a method for each callback of the VFS and each fact that it shows",

	"bench.bench":       "what every part of the benchmark is given: the run's report and programs",
	"bench.form":        "what a run measures and how long: a table, one field a column",
	"bench.grown":       "a row of a table of results",
	"replicate.world":   "a test's world: a database, its recorder and targets",
	"manifest.Manifest": "the record as it is stored, field by field (manifestpb)",
	"spool.page":        "the layout of the state page, which C shares",
	"spool.State":       "a word for each of the state page's",
}
