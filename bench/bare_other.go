//go:build !unix || aix || (solaris && !illumos)

package main

import "context"

const errNoFlock = unmeasured("this system has no flock(2)")

type looks struct{}

var noLooks, allLooks looks

func newBare(_, _ string, _ []byte, _ looks) (func() error, error) { return nil, errNoFlock }

func blockInFlock(context.Context, string) (release func() error, err error) { return nil, errNoFlock }

func blockInFlockAndRecord(context.Context, string) (release func() error, err error) {
	return nil, errNoFlock
}
