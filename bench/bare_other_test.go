//go:build !unix || aix || (solaris && !illumos)

package bench_test

import "testing"

// newBare skips: this system has no flock.
func newBare(b *testing.B, _, _ string, _ []byte) func() error {
	b.Skip("no flock here")
	return nil
}
