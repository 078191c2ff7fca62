//go:build race

package rabbitmq_test

const raceDetector = true
