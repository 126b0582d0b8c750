// Package bench measures flocklock beside its peers and beside the bare system
// calls. It is a module of its own, so that who imports the lock does not get
// the peers. It has tests only:
//
//	go test -bench . ./bench
package bench
