SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help modules test lint bench services down

staticcheck := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

modules: ## download what test and lint need
	go list -deps -test ./... >/dev/null
	cd benchmarks; go list -deps ./... >/dev/null
	$(staticcheck) -version

test: services ## start the servers, vet, run all tests with the race detector
	go vet ./...
	services=$$(scripts/services env); eval "$$services"; scripts/test

lint: ## gofmt, go mod tidy, vet and staticcheck, in the library and in benchmarks
	@unformatted=$$(find . -name '*.go' -not -path './.*' -print0 | xargs -0 -r gofmt -l); \
	if [[ -n $$unformatted ]]; then printf 'gofmt would change:\n%s\n' "$$unformatted"; exit 1; fi
	go mod tidy -diff
	go vet ./...
	$(staticcheck) ./...
	@if [[ -f benchmarks/go.mod ]]; then set -x; cd benchmarks; go build -o /dev/null ./...; go vet ./...; fi

bench: services ## run every benchmark suite, side by side with peers
	services=$$(scripts/services env); eval "$$services"; cd benchmarks; go run . all

services: ## start the test servers (scripts/services up)
	scripts/services up

down: ## stop the test servers
	scripts/services down
