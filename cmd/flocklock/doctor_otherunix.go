//go:build unix && !linux && !darwin && !freebsd && !dragonfly

package main

// sharedFileSystem is empty: the kind of a file system is not asked for.
func sharedFileSystem(string) string { return "" }
