//go:build !race

package sqllogtest

const raceDetector = false
