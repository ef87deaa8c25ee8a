// Package proof keeps, in a target, when a database was last proven to restore from it.
//
// A proof is made by verneuilctl verify --drill: the newest version was restored from this target
// alone, into a file that SQLite found whole. What failed, and what restored an older version, is
// no proof, and leaves the last one as it is.
//
// # Format
//
// One object per database in the bucket of manifests, under "proof-" and the manifest's key. It is
// {"verneuil_proof":1, ...} with the members of [Proof], as JSON, sealed as a body
// ([chunkstore.Sealer]). No manifest's key begins so: who lists manifests passes it over
// ([IsKey]). It lies beside the manifests, as rules by which objects expire spare these, and
// whoever may put manifests may put it: nobody needs another right, and a policy that denies
// replacing packs and records says nothing of it.
//
// # Beliefs
//
// A database restores. Witness: it did, at the time that the proof says, as the version that it
// says. Defeated by whatever happened to the target since: so the time is what is shown, and how
// old it may be is for who reads it to say. Defeated, too, by who may put manifests and lies: he
// could do worse.
//
// Of two drills that end at once either may be kept.
package proof
