.PHONY: dev test bench soak check prepare

dev: ## the whole system on this machine; ARGS="--port-base 4000" and the like go to `control-plane dev`
	deploy/scripts/dev $(ARGS)

test: ## all tests, with a PostgreSQL server of their own; ARGS go to `cargo nextest run`
	deploy/scripts/test $(ARGS)

bench: ## every figure of the whole system in release, as a ratio to its baseline; ARGS="grants --rounds 5" and the like
	deploy/scripts/bench $(ARGS)

soak: ## kills every process under load, 20 times each, and fuzzes for longer; prints figures; ARGS go to `cargo nextest run`
	deploy/scripts/soak $(ARGS)

check: ## formatting, lints, queries, documentation, dependencies, protocol
	deploy/scripts/check

prepare: ## writes .sqlx anew, after a query or a migration has changed
	deploy/scripts/queries prepare
