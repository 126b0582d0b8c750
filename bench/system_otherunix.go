//go:build unix && !linux && !darwin && !freebsd

package main

// fileSystem does not name it.
func fileSystem(string) string { return unknownFileSystem }
