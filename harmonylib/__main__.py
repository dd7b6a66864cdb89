from harmonylib.cli import main

raise SystemExit(main())
